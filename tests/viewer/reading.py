"""Reads a report back with the standard library's HTML parser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "source", "img", "input", "rect"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: tuple["Element", ...]
    text: str = ""

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


@dataclass
class Document(HTMLParser):
    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def tokens(self) -> list[Element]:
        """The token spans, without those of the legend."""
        return [element for element in self.all("i") if "data-start" in element.parents[-1].attributes]


def parse(html: str) -> Document:
    document = Document()
    document.feed(html)
    document.close()
    assert not document.open, "an element is not closed"
    return document


def read_page(path: Path) -> Document:
    # Bytes, because read_text would translate line ends.
    return parse(path.read_bytes().decode())
