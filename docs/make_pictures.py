"""Makes the pictures of README and docs from the photographs in tests/data with the demo model.  Run: make docs."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import refsam
from refsam.drawing import overlay
from refsam.files import atomic_write
from refsam.images import read_image
from refsam.masks import iou, rle_to_mask
from refsam.verify import Case, open_port, verify
from refsam.verify.report import to_html

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "tests" / "data" / "photos"
HEIGHT = 320
"""Of one picture in a sheet, in pixels."""

IN_README = ("kitten.jpg", "hens.jpg")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGE = (1180, 1330)
"""Width and height of what is shown of a report."""


def main() -> None:
    """Each photograph of prompts.json with its click and with its box: two for the README, all for the demo model's card; for the
    card also, of every photograph with masks, the object that a box finds best and the one that it finds worst."""
    predictor = refsam.SamPredictor(refsam.load("demo"))
    rows = {}
    for entry in json.loads((PHOTOS / "prompts.json").read_text()):
        image = read_image(PHOTOS / entry["photo"])
        predictor.set_image(image)
        click = {"point_coords": [entry["click"]["point"]], "point_labels": [1]}
        box = {"box": entry["box"]["box"]}
        rows[entry["photo"]] = [answered(predictor, image, click), answered(predictor, image, box)]
    save(sheet([rows[photo] for photo in IN_README]), HERE / "pictures" / "readme.jpg")
    save(sheet(list(rows.values())), HERE / "pictures" / "demo.jpg")
    save(sheet(best_and_worst(predictor), per_line=4), HERE / "pictures" / "demo-boxes.jpg")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"pictures/report.jpg stays as it is: it needs one of {', '.join(BROWSERS)}")
    else:
        save(shown(report(), browser), HERE / "pictures" / "report.jpg")


def report() -> str:
    """The page of what refsam verify finds of the iOS app's path with the demo model."""
    model = refsam.load("demo")
    image = read_image(PHOTOS / "kitten.jpg")
    case = Case(image, {"point_coords": [[590, 390]], "point_labels": [1]}, "kitten")
    return to_html(verify(open_port("app", model=model), model, [case]))


def shown(page: str, browser: str) -> Image.Image:
    """The page as a browser shows it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.html").write_text(page)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={PAGE[0]},{PAGE[1]}"]
        target = [f"--screenshot={folder}/report.png", f"file://{folder}/report.html"]
        subprocess.run([browser, *options, *target], check=True, capture_output=True)
        with Image.open(f"{folder}/report.png") as picture:
            return picture.convert("RGB")


def best_and_worst(predictor: refsam.SamPredictor, side: int = 220) -> list[list[Image.Image]]:
    """Per held-out photograph two squares: the object with the highest IoU of its box's mask, and the one with the lowest."""
    rows = []
    for path in sorted(path for path in (PHOTOS / "masks").glob("*.json") if "recipe" not in path.name):
        record = json.loads(path.read_text())
        image = read_image(PHOTOS / record["photo"])
        predictor.set_image(image)
        found = []
        for item in record["objects"]:
            mask = predictor.predict(box=item["box"], multimask_output=False)[0][0]
            found.append((iou(mask, rle_to_mask(item["rle"])), item["box"], mask))
        found.sort(key=lambda one: one[0])
        rows.append([captioned(overlay(image, [mask], boxes=[box]), score, side) for score, box, mask in (found[-1], found[0])])
    return rows


def captioned(picture: np.ndarray, score: float, side: int) -> Image.Image:
    """The picture in a white square with its score below."""
    small = Image.fromarray(picture)
    small.thumbnail((side, side - 16), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), "white")
    square.paste(small, ((side - small.width) // 2, 0))
    ImageDraw.Draw(square).text((side // 2, side - 13), f"IoU {score:.2f}", fill="black", anchor="mt")
    return square


def answered(predictor: refsam.SamPredictor, image: np.ndarray, prompt: dict[str, Any]) -> Image.Image:
    """The photograph with the prompt and the mask that the model itself ranks first."""
    masks, scores, _ = predictor.predict(**prompt)
    drawn = overlay(
        image,
        [masks[np.argmax(scores)]],
        points=prompt.get("point_coords"),
        boxes=[prompt["box"]] if "box" in prompt else None,
    )
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    return Image.fromarray(drawn).resize((width, HEIGHT), Image.Resampling.LANCZOS)


def sheet(rows: list[list[Image.Image]], per_line: int = 2, gap: int = 6) -> Image.Image:
    """All pictures on white, a row of them per photograph, `per_line` photographs beside each other."""
    lines = [[picture for row in rows[start : start + per_line] for picture in row] for start in range(0, len(rows), per_line)]
    width = max(sum(picture.width + gap for picture in line) for line in lines) - gap
    height = lines[0][0].height
    result = Image.new("RGB", (width, len(lines) * (height + gap) - gap), "white")
    for number, line in enumerate(lines):
        left = 0
        for picture in line:
            result.paste(picture, (left, number * (height + gap)))
            left += picture.width + gap
    return result


def save(picture: Image.Image, path: Path) -> None:
    """As a JPEG: photographs are too large as PNG."""
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        picture.save(file, "JPEG", quality=88)
    print(path)


if __name__ == "__main__":
    main()
