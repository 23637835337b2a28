"""RandAugment's operations with Pillow, as timm and the official loader do them: what ours are measured by."""

from collections.abc import Callable

from PIL import Image, ImageEnhance, ImageOps

from loaders.randaugment import Operation

GREY = (128, 128, 128)


def in_pillow(image: Image.Image, operation: Operation) -> Image.Image:
    """The RGB image after the operation, bicubic where it is geometric.

    Raises:
        KeyError: there is no such operation.
    """
    value, (width, height) = operation.value, image.size

    def affine(*numbers: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, numbers, Image.Resampling.BICUBIC, fillcolor=GREY)

    changes: dict[str, Callable[[], Image.Image]] = {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: image.point([x & ~(2 ** (8 - int(value)) - 1) for x in range(256)] * 3),
        "solarize": lambda: ImageOps.solarize(image, int(value)),
        "solarize_add": lambda: image.point([min(x + int(value), 255) if x < 128 else x for x in range(256)] * 3),
        "color": lambda: ImageEnhance.Color(image).enhance(value),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(value),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(value),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(value),
        "rotate": lambda: image.rotate(value, Image.Resampling.BICUBIC, fillcolor=GREY),
        "shear_x": lambda: affine(1, value, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, value, 1, 0),
        "translate_x": lambda: affine(1, 0, value * width, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, value * height),
    }
    return changes[operation.name]()
