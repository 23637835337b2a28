"""Labels: each clip's class in each taxonomy, with the native names of several sources merged by aliases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from warehouse.config import Config, Taxonomy
from warehouse.connections import open_duckdb
from warehouse.curation import kinetics710
from warehouse.schema import BY_NAME

_NAMED = 5
"""Unknown classes that an error names."""


class TaxonomyError(ValueError):
    """The classes of a taxonomy's sources and its class list do not fit. Names classes and files."""


@dataclass(frozen=True)
class MergedClasses:
    """A taxonomy's class names, and for each source (or version) the index in them of each of its own classes."""

    names: tuple[str, ...]
    maps: Mapping[str, tuple[int, ...]]


def merge_classes(
    native: Mapping[str, Sequence[str]], aliases: Mapping[str, str], order: Sequence[str] | None = None
) -> MergedClasses:
    """Merge class lists: equal names are one class, and aliases are other names of a class.

    Args:
        native: class names of each source, by its name.
        aliases: native name → name in the taxonomy.
        order: all names of the taxonomy, in the order of their indices; by default those found, sorted. A native name
            that is among them stands for itself, whatever the aliases say.

    Returns:
        The names, and maps of which ``maps[source][i]`` is what class ``i`` of ``native[source]`` is in them.

    Raises:
        KeyError: a name that, merged, is not in ``order``.
    """
    itself = frozenset(order or ())
    merged = {
        source: [name if name in itself else aliases.get(name, name) for name in names]
        for source, names in native.items()
    }
    names = tuple(order) if order is not None else tuple(sorted({name for some in merged.values() for name in some}))
    index = {name: i for i, name in enumerate(names)}
    return MergedClasses(names, {source: tuple(index[name] for name in some) for source, some in merged.items()})


def read_class_list(path: Path) -> list[str]:
    """The names of a class list file, UTF-8 with one name a line, in the order of their indices.

    Raises:
        TaxonomyError: the file cannot be read, has an empty line before its end, or names a class twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path}: cannot be read: {error}. A class list has one class name a line") from error
    first: dict[str, int] = {}
    for number, name in enumerate(lines, 1):
        if not name:
            raise TaxonomyError(f"{path}:{number}: no class name. Remove the empty line: it would be a class")
        if name in first:
            raise TaxonomyError(f"{path}:{number}: {name!r} is on line {first[name]} already. Remove one of them")
        first[name] = number
    return lines


def label_tables(config: Config, memberships: pa.Table) -> dict[str, pa.Table]:
    """Tables ``labels``, ``classes`` and ``native_classes``.

    ``labels`` has a row for each (clip, taxonomy) for which a source of a collection of that taxonomy has a name.
    Where sources disagree about a clip, the one that comes first in ``sources.toml`` wins.

    Raises:
        TaxonomyError: a class is not in the taxonomy's class list, or Kinetics-710 has not 710 classes (or another
            version not the number that it has).
    """
    tables: dict[str, list[pa.Table]] = {name: [] for name in ("labels", "classes", "native_classes")}
    with open_duckdb() as con:
        con.register("memberships", memberships)
        for taxonomy in config.taxonomies:
            for name, table in _of_taxonomy(con, config, taxonomy).items():
                tables[name].append(table.cast(BY_NAME[name].schema))
    return {name: pa.concat_tables([BY_NAME[name].schema.empty_table(), *some]) for name, some in tables.items()}


def _of_taxonomy(con: duckdb.DuckDBPyConnection, config: Config, taxonomy: Taxonomy) -> dict[str, pa.Table]:
    collections = {c.name for c in config.collections if c.taxonomy == taxonomy.name}
    feeding = [source for source in config.sources if collections & set(source.collections)]
    con.register("feeding", pa.table({"source": pa.array([s.name for s in feeding], pa.string()),
                                      "priority": pa.array([s.priority for s in feeding], pa.int32())}))  # fmt: skip
    con.execute(
        "CREATE OR REPLACE TEMP VIEW named AS "
        "SELECT m.*, priority FROM memberships m JOIN feeding USING (source) WHERE label IS NOT NULL"
    )
    native: dict[str, list[str]] = {}
    for source, name in con.execute("SELECT DISTINCT source, label FROM named ORDER BY ALL").fetchall():
        native.setdefault(source, []).append(name)
    aliases, order = taxonomy.aliases, None
    if taxonomy.classes:
        order = read_class_list(taxonomy.classes)
        if taxonomy.kind is not None:
            aliases = kinetics710.OFFICIAL_PLACES | dict(aliases)
        _require_known(con, taxonomy, native, aliases, order)
    merged = merge_classes(native, aliases, order)
    if taxonomy.kind is not None:
        _require_size(taxonomy, kinetics710.SIZES[taxonomy.kind], native, merged)
    rows = [
        (source, i, name, class_id)
        for source, names in native.items()
        for i, (name, class_id) in enumerate(zip(names, merged.maps[source], strict=True))
    ]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    types = (pa.string(), pa.int32(), pa.string(), pa.int32())
    names = ("source", "native_id", "native_name", "class_id")
    natives = pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})
    classes = pa.table({"class_id": pa.array(range(len(merged.names)), pa.int32()), "class_name": merged.names})
    con.register("native_class", natives)
    con.register("class", classes)
    labels = con.execute(
        """
        WITH chosen AS (
            SELECT clip_id, arg_min({'source': source, 'label': label}, (priority, split, label)) AS taken
            FROM named GROUP BY clip_id
        )
        SELECT clip_id, ?::VARCHAR AS taxonomy, class_id, class_name, n.source
        FROM chosen JOIN native_class n ON n.source = taken.source AND n.native_name = taken.label
        JOIN class USING (class_id) ORDER BY clip_id
        """,
        [taxonomy.name],
    ).to_arrow_table()
    return {
        "labels": labels,
        "classes": _in_front(classes, taxonomy.name),
        "native_classes": _in_front(natives, taxonomy.name),
    }


def _in_front(table: pa.Table, taxonomy: str) -> pa.Table:
    return table.add_column(0, "taxonomy", pa.array([taxonomy] * table.num_rows, pa.string()))


def _require_known(
    con: duckdb.DuckDBPyConnection,
    taxonomy: Taxonomy,
    native: Mapping[str, Sequence[str]],
    aliases: Mapping[str, str],
    order: Sequence[str],
) -> None:
    known = set(order)
    unknown = {(source, name) for source, names in native.items() for name in names
               if name not in known and aliases.get(name) not in known}  # fmt: skip
    if not unknown:
        return
    places = con.execute(
        "SELECT source, label, arg_min(annotation_file || ':' || annotation_row, annotation_row) FROM named "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    found = [f"{name!r} ({place})" for source, name, place in places if (source, name) in unknown]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise TaxonomyError(
        f"{taxonomy.classes} lacks {len(found)} of the classes in the annotations: {', '.join(found[:_NAMED])}{more}. "
        f"Add them to that file, or to `aliases` of [taxonomies.{taxonomy.name}]"
    )


def _require_size(
    taxonomy: Taxonomy, size: int, native: Mapping[str, Sequence[str]], merged: MergedClasses
) -> None:
    if len(merged.names) == size:
        return
    versions = "Kinetics-400, -600 and -700" if taxonomy.kind == "kinetics710" else f"Kinetics-{size}"
    where = f"{taxonomy.classes} has" if taxonomy.classes else "its sources give"
    counts = ", ".join(f"{source}: {len(names)}" for source, names in native.items()) or "no source is labelled"
    raise TaxonomyError(
        f"taxonomy {taxonomy.name!r}: {where} {len(merged.names)} classes and Kinetics-{size} has {size} "
        f"({counts}). Feed it all of {versions}, or give the list of its classes: "
        f"`classes = \"label_map_k{size}.txt\"` in [taxonomies.{taxonomy.name}]"
    )
