"""Damages three photographs of scikit-image; after restoring them draws docs/images/restoring.jpg and says the PSNR.

python docs/restoring_figure.py damage FOLDER     # photos/ and masks/
cd FOLDER && restoration-restore input=photos output=restored mask=masks
python docs/restoring_figure.py draw FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from skimage import data

# Upper left corner of the part that is shown, and its side.
CORNERS, SIDE = {"coffee": (170, 60), "chelsea": (75, 0), "retina": (560, 560)}, 300
HOLE = (255, 155, 345, 245)  # left, upper, right, lower


def originals() -> dict[str, Image.Image]:
    """By name."""
    return {name: Image.fromarray(getattr(data, name)()) for name in CORNERS}


def cat_mask(size: tuple[int, int]) -> Image.Image:
    """A scribble and a rectangle, white."""
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    draw.line([(90, 40), (170, 120), (120, 190), (230, 250), (330, 60)], fill=255, width=5, joint="curve")
    draw.rectangle((270, 180, 310, 220), fill=255)
    return mask


def damage(folder: Path) -> None:
    """Writes the damaged photographs, and the mask of the second, into photos/ and masks/."""
    for name in ("photos", "masks"):
        (folder / name).mkdir(parents=True)
    coffee, cat, retina = originals().values()
    ImageDraw.Draw(coffee).rectangle((HOLE[0], HOLE[1], HOLE[2] - 1, HOLE[3] - 1), fill="white")
    coffee.save(folder / "photos" / "coffee.jpg", quality=90)
    mask = cat_mask(cat.size)
    cat.paste((255, 255, 255), mask=mask)
    cat.putalpha(Image.linear_gradient("L").resize(cat.size).point(lambda value: 200 + value // 5))
    cat.save(folder / "photos" / "chelsea.png")
    mask.save(folder / "masks" / "chelsea.png")
    retina.filter(ImageFilter.GaussianBlur(2)).save(folder / "photos" / "retina.jpg", quality=95)


def psnr(one: Image.Image, other: Image.Image, inside: np.ndarray | None = None) -> float:
    """In dB, at most 100, over the pixels of a mask, bool (H, W), or all."""
    square = ((np.asarray(one.convert("RGB"), float) - np.asarray(other, float)) / 255) ** 2
    return float(-10 * np.log10(max(1e-10, square[inside].mean() if inside is not None else square.mean())))


def draw(folder: Path) -> None:
    """Draws the picture, a row for each photograph, and prints the figures."""
    holes = {"coffee": np.zeros((400, 600), bool), "chelsea": np.asarray(cat_mask((451, 300))) > 0}
    holes["coffee"][HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]] = True
    picture = Image.new("RGB", (3 * SIDE + 20, 3 * SIDE + 20), "white")
    for row, (name, original) in enumerate(originals().items()):
        path = next((folder / "photos").glob(f"{name}.*"))
        before, after = Image.open(path), Image.open(folder / "restored" / f"{name}.png")
        parts = {"all": None, **({"hole": holes[name], "known": ~holes[name]} if name in holes else {})}
        for part, inside in parts.items():
            print(f"{name}, {part}: {psnr(before, original, inside):.2f} -> {psnr(after, original, inside):.2f} dB")
        left, upper = CORNERS[name]
        for column, image in enumerate((before, after, original)):
            cut = image.convert("RGB").crop((left, upper, left + SIDE, upper + SIDE))
            picture.paste(cut, (column * (SIDE + 10), row * (SIDE + 10)))
    picture.save(Path(__file__).parent / "images" / "restoring.jpg", quality=85)


if __name__ == "__main__":
    {"damage": damage, "draw": draw}[sys.argv[1]](Path(sys.argv[2]))
