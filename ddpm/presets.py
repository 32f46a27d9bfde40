"""Named settings of `ddpm train`, each measured here or taken from a paper."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ddpm.errors import check

if TYPE_CHECKING:
    from ddpm.commands.request import Request


@dataclass(frozen=True)
class Preset:
    """Options of `ddpm train` under one name.

    Attributes:
        options: By the names of the fields of `Request`.
        source: Where the figures come from.
    """

    options: dict[str, Any]
    source: str


PRESETS = {
    "digits": Preset({"data": "digits"}, "measured"),
}


def completed(request: "Request") -> "Request":
    """A request with what its preset says and the user did not.

    Raises:
        InputError: there is no such preset.
    """
    if request.preset is None:
        return request
    check(request.preset in PRESETS, "preset", request.preset, ", ".join(PRESETS))
    options = PRESETS[request.preset].options
    own = {
        field.name for field in fields(request) if getattr(request, field.name) not in (None, ())
    }
    return replace(request, **{n: v for n, v in options.items() if n not in own})
