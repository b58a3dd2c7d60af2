"""SVG as escaped markup: elements, and text that fits.

Colours come from classes that the style sheet knows, never from style attributes: the page's
content security policy allows none, and a class has a colour in the dark as well.
"""

from typing import Final

from markupsafe import Markup, escape

TEXT_PX: Final = 6.4  # mean width of a character of 12 px
ELLIPSIS: Final = "…"


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; ``class_`` and ``text_anchor`` become ``class`` and ``text-anchor``.

    Attributes that are ``None`` are left out. Everything is escaped but markup itself.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")  # noqa: S704  (escaped above)


def picture(width: float, height: float, label: str, *children: Markup) -> Markup:
    """Return a whole chart, drawn for a width and scaled where there is another."""
    return tag(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="chart",
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, words: str, class_: str = "label", anchor: str = "start") -> Markup:
    """Return one line of text."""
    return tag("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def fitted(words: str, width: float) -> str:
    """Return text cut to about a width in pixels, with an ellipsis where it was cut."""
    most = max(1, int(width / TEXT_PX))
    return words if len(words) <= most else words[: most - 1] + ELLIPSIS


def text_width(words: str) -> float:
    """Return about how wide a text is, in pixels."""
    return len(words) * TEXT_PX


def _plain(value: object) -> object:
    """Return a number with two decimals at most: more cannot be seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
