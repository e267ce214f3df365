"""Pascal VOC: an XML file an image, in ``Annotations/`` or beside the image; splits by ``ImageSets/Main`` or folders.

Coordinates count pixels from 1 and include the last one (VOC development kit, section 3.2): a box ``xmin, ymin, xmax,
ymax`` is ``xmin - 1, ymin - 1, xmax, ymax`` here. ``difficult`` objects are kept and marked.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from xml.etree import ElementTree

from services.datasets.formats.boxes import XYXY, cut, numbers
from services.datasets.formats.layout import Fit, share
from services.datasets.listing import Listing, Unreadable
from services.datasets.samples import SPLITS, Box, Classes, Flaw, Parsed, Sample, Split, folder_split, task_of

NAME = "voc"
_TRIED = 20
MAX_XML_BYTES = 4 << 20
"""Of one image: as elements it takes a hundred times as much."""


def fit(listing: Listing) -> Fit | None:
    files = listing.suffixed(".xml")
    sound = [name for name in files[:_TRIED] if not isinstance(_document(listing, name), str)]
    if not sound:
        return None
    score = share(len(sound), min(len(files), _TRIED)) * min(1.0, share(len(files), len(listing.pictures)))
    return Fit(max(0.3, score), f"{len(files):,} XML annotations for {len(listing.pictures):,} images")


def read(listing: Listing) -> Parsed:
    parsed = Parsed(NAME, "detection", [])
    splits = _image_sets(listing, parsed)
    read_in: list[tuple[str, str, Split, list[tuple[str, Box]], tuple[float, float] | None]] = []
    taken: dict[str, str] = {}
    for name in listing.suffixed(".xml"):
        document = _document(listing, name)
        if isinstance(document, str):
            parsed.flaws.append(Flaw(name, None, document))
            continue
        parsed.label_files.append(name)
        image = _image_of(listing, name, document)
        if image is None or taken.setdefault(image, name) != name:
            parsed.count()
            parsed.see_split(splits.get(PurePosixPath(name).stem) or folder_split(name))
            why = "its image is not in the archive" if image is None else f"{taken[image]} describes that image already"
            parsed.flaws.append(Flaw(name, None, why, annotation=True, reason="annotations of no readable image"))
            continue

        split = splits.get(PurePosixPath(name).stem) or folder_split(image) or folder_split(name) or "train"
        size = _size(document)
        read_in.append((name, image, split, _objects(name, document, size, parsed), size))

    classes = Classes(sorted({label for *_, found, _ in read_in for label, _ in found}))
    parsed.classes = classes.names
    for _, image, split, found, size in read_in:
        boxes = tuple(Box(classes.index(label) or 0, box.xyxy, box.ignore) for label, box in found)
        parsed.split_seen[split] += 1
        parsed.class_seen.update(box.label for box in boxes)
        labels = tuple(sorted({box.label for box in boxes}))
        parsed.samples.append(Sample(image, split, labels, boxes, frame=size))
    parsed.task = "detection" if parsed.classes else task_of(parsed.samples, 0)
    return parsed


def _document(listing: Listing, name: str) -> ElementTree.Element | str:
    try:
        text = listing.text(name, most=MAX_XML_BYTES)
    except Unreadable as error:
        return str(error)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return "it declares a document type, which is not read"
    try:
        root = ElementTree.fromstring(text.lstrip())  # noqa: S314 - see above
    except (ElementTree.ParseError, ValueError) as error:
        return f"not XML: {error}"
    return root if root.tag == "annotation" else f"its root is <{root.tag[:40]}>: not a VOC annotation"


def _image_of(listing: Listing, name: str, document: ElementTree.Element) -> str | None:
    """The image that an annotation is of: by its own name, which tools keep right, then as ``filename`` says."""
    stem = PurePosixPath(name).with_suffix("")
    for folder in ("Annotations", "JPEGImages", "images"):
        place = PurePosixPath(*(folder if part.lower() == "annotations" else part for part in stem.parts))
        same = listing.with_stem(str(place))
        if same:
            return same[0]
    said = (document.findtext("filename") or "").strip()
    return listing.find(said, beside=name) if said else None


def _size(document: ElementTree.Element) -> tuple[float, float] | None:
    found = numbers([_number(document, "size/width"), _number(document, "size/height")], 2)
    return (found[0], found[1]) if found is not None and min(found) > 0 else None


def _number(element: ElementTree.Element, path: str) -> float | None:
    try:
        return float(element.findtext(path) or "")
    except ValueError:
        return None


def _objects(
    name: str, document: ElementTree.Element, size: tuple[float, float] | None, parsed: Parsed
) -> list[tuple[str, Box]]:
    found: list[tuple[str, Box]] = []
    for number, one in enumerate(document.iter("object")):
        parsed.count()
        label = " ".join((one.findtext("name") or "").split())
        box: XYXY | str = "it has no name"
        if label:
            corners = numbers([_number(one, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")], 4)
            box = "its bndbox is not four numbers"
            if corners is not None:
                x0, y0, x1, y1 = corners
                box = cut((x0 - 1, y0 - 1, x1, y1), size, shown="its bndbox")
        if isinstance(box, str):
            parsed.flaws.append(
                Flaw(name, None, f"object {number}: {box}", annotation=True, reason="boxes that cannot be used")
            )
        else:
            found.append((label, Box(0, box, ignore=(one.findtext("difficult") or "0").strip() == "1")))

    return found


def _image_sets(listing: Listing, parsed: Parsed) -> dict[str, Split]:
    """The split of each image by its stem, as ``ImageSets/Main/train.txt`` lists them."""
    found: dict[str, Split] = {}
    for name in listing.suffixed(".txt"):
        path = PurePosixPath(name)
        if path.stem.lower() not in SPLITS or path.parent.name.lower() not in ("main", "imagesets", "layout"):
            continue
        try:
            lines = listing.text(name).splitlines()
        except Unreadable as error:
            parsed.flaws.append(Flaw(name, None, str(error)))
            continue
        parsed.label_files.append(name)
        for line in lines:
            if words := line.split():
                found.setdefault(
                    PurePosixPath(words[0]).stem if "/" in words[0] else words[0], SPLITS[path.stem.lower()]
                )

    return found
