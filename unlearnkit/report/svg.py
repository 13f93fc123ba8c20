"""A plot as SVG in the page, whose style rules its colours, sizes and marks."""

import re
from collections.abc import Mapping
from io import StringIO
from urllib.parse import quote
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from unlearnkit.report.drawing import COLOURS, Mark, lettered

VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


def inline(plot: Figure, label: str, links: Mapping[str, str] | None = None) -> str:
    """Return a plot as an element of the page; its points are links to their solutions with the text of `links`.

    A gid "kind/solution" becomes the class and the `data-mark` of a group. Styles become attributes, which any rule of
    the page's style overrules, and its colours the page's variables.
    """
    stream = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": label}):  # keeps the ids of plots apart
        lettered(plot).savefig(stream, format="svg", transparent=True)
    drawn = ElementTree.fromstring(stream.getvalue())  # noqa: S314 our own text
    page = ElementTree.Element("svg", {"viewBox": drawn.attrib["viewBox"], "aria-label": label})
    page.set("role", "group" if links else "img")
    page.extend(group for group in drawn if group.tag.endswith("}g"))
    for element in list(page.iter())[1:]:
        element.tag, element.tail = element.tag.rpartition("}")[2], None
        element.text = element.text if element.tag == "text" else None
        given = [_attributes(element.tag, key.rpartition("}")[2], value) for key, value in element.attrib.items()]
        element.attrib = {key: value for attributes in given for key, value in attributes.items()}
    for path in page.iterfind(".//defs/path"):  # each use of a marker has its own style
        path.attrib = {key: path.attrib[key] for key in ("id", "d")}
    for text in page.iter("text"):
        text.set("aria-hidden", "true")
    for solution, said in (links or {}).items():
        (link,) = (group for group in page.iterfind(".//g[@class='point']") if group.get("data-mark") == solution)
        place = {f"c{key}": use.attrib[key] for use in link.iter("use") for key in "xy"}
        link.tag = "a"
        link.attrib |= {"href": f"#solution={quote(solution)}", "data-id": solution, "aria-label": said}
        ElementTree.SubElement(link, "title").text = said
        ElementTree.SubElement(link, "circle", {"class": "target", "r": "10", **place})
    return ElementTree.tostring(page, encoding="unicode")


def look(mark: Mark) -> dict[str, str]:
    """Return a mark as the path of an SVG around 0, 0, and its colour in the page."""
    style = MarkerStyle(mark.shape).scaled(11, -11)  # up is down in an SVG
    segments = style.get_path().transformed(style.get_transform()).iter_segments(simplify=False)
    places = [(code, [f"{v:.2f}" for v in values if code != Path.CLOSEPOLY]) for values, code in segments]
    path = "".join(LETTERS[code] + " ".join(place) for code, place in places)
    return {"path": path, "colour": VARIABLES.get(mark.colour, mark.colour)}


def _attributes(tag: str, key: str, value: str) -> dict[str, str]:
    """Return what stays of an attribute of matplotlib's."""
    if key == "style":
        styles = dict(part.split(": ", 1) for part in value.split("; "))
        kept = {name: VARIABLES.get(it, it) for name, it in styles.items() if not name.startswith("font")}
        size = re.search(r"font(?:-size)?: ([\d.]+)px", value)
        return kept | ({"font-size": size[1]} if size else {})
    if key == "id" and tag != "path":  # only markers are referred to
        kind, mark, solution = value.partition("/")
        return {"class": kind, "data-mark": solution} if mark else {}
    if key == "clip-path":  # what is drawn lies within the axes
        return {}
    return {key: re.sub(r"\s+", " ", re.sub(r"(\.\d\d)\d+", r"\1", value)) if key != "href" else value}
