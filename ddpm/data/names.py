"""Many names in little memory."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload


class Names(Sequence[str]):
    """Strings in two blocks of memory, which worker processes share without copying.

    A list of ten million names takes a gigabyte, and every process that merely looks at a name of
    it copies that page, because looking changes a reference count.

    Args:
        names: the strings; may hold what file systems allow and Unicode does not.
    """

    def __init__(self, names: Iterable[str]) -> None:
        text, self._ends = bytearray(), array("q", [0])
        for name in names:
            text += name.encode("utf-8", "surrogateescape")
            self._ends.append(len(text))
        self._text = bytes(text)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...

    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        piece = self._text[self._ends[place] : self._ends[place + 1]]
        return piece.decode("utf-8", "surrogateescape")
