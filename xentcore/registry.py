"""Every variant by its slug, found by scanning :mod:`xentcore.variants`."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, Final

from xentcore import variants
from xentcore.errors import UnknownVariant
from xentcore.variant import Variant


def _scan() -> Mapping[str, Variant[Any]]:
    found: dict[str, Variant[Any]] = {}
    for module in iter_modules(variants.__path__, f"{variants.__name__}."):
        for member in vars(import_module(module.name)).values():
            if isinstance(member, type) and issubclass(member, Variant) and member is not Variant:
                found[member.slug] = member()
    return MappingProxyType(dict(sorted(found.items())))


VARIANTS: Final = _scan()


def find_variant(slug: str) -> Variant[Any]:
    """Return the variant of this name.

    Raises:
        UnknownVariant: naming the nearest one and all there are.
    """
    try:
        return VARIANTS[slug]
    except KeyError:
        raise UnknownVariant(slug, VARIANTS) from None
