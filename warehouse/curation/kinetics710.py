"""Kinetics-710: the classes of Kinetics-400, -600 and -700 together, with those merged that mean the same.

Two classes of the same name are one class, and 15 more names are other names of a class. Of the names in the annotation
files that gives exactly 710 classes (UniFormerV2, arXiv 2211.09552; used by VideoMAE V2, arXiv 2303.16727, "Data").

The official class lists differ from that in one name. They do not merge "throwing ball", and have it in the place of a
class that is then missing: "chopping vegetables" in Kinetics-600 and in the 710, "archaeological excavation" in
Kinetics-700. Found by comparing them with the class lists of the data sets.
"""

SIZES = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700, "kinetics710": 710}
"""Kinds of taxonomy that take their names from the merge, and how many classes each has: a head for one version finds
its classes by name in a head for all."""

# misc/k710_identical_label_merge.json of the official VideoMAE V2 (github.com/OpenGVLab/VideoMAEv2, commit 29eab1e).
IDENTICAL_CLASSES: dict[str, str] = {
    "balloon blowing": "inflating balloons",
    "changing wheel": "changing wheel (not on bike)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "drinking": "sipping cup",
    "dying hair": "dyeing hair",
    "garbage collecting": "person collecting garbage",
    "hugging": "hugging (not baby)",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "passing american football (not in game)": "passing American football (not in game)",
    "picking fruit": "picking apples",
    "skiing (not slalom or crosscountry)": "skiing mono",
    "sniffing": "smelling feet",
    "throwing ball": "throwing ball (not baseball or American football)",
    "tying tie": "tying necktie",
}

OFFICIAL_PLACES: dict[str, str] = dict.fromkeys(("archaeological excavation", "chopping vegetables"), "throwing ball")
"""Classes of the annotations → what stands in their place in an official class list, where that list lacks them."""
