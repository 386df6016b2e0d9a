from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.protocol import wire

DTYPES = ["uint8", "uint16", "uint32", "int32", "int64", "float32", "float64"]


@st.composite
def messages(draw: Any) -> Any:
    rows = draw(st.integers(0, 50))
    names = draw(st.lists(st.text(min_size=1, max_size=12), max_size=8, unique=True))
    columns = {name: draw(arrays.arrays(draw(st.sampled_from(DTYPES)), rows)) for name in names}
    header = draw(
        st.dictionaries(
            st.text(max_size=10).filter(lambda key: key not in {"rows", "columns", "pad"}),
            st.one_of(st.integers(-(2**40), 2**40), st.text(max_size=40), st.floats(allow_nan=False), st.none()),
            max_size=5,
        )
    )
    return draw(st.sampled_from(list(wire.KINDS))), header, columns


@settings(max_examples=50, deadline=None)
@given(messages())
def test_round_trip(message: Any) -> None:
    kind, header, columns = message
    encoded = wire.encode(kind, header, columns)
    kind_back, header_back, columns_back = wire.decode(encoded)
    assert kind_back == kind
    assert {key: header_back[key] for key in header} == header
    assert list(columns_back) == list(columns)
    for name, column in columns.items():
        assert columns_back[name].dtype == column.dtype
        np.testing.assert_array_equal(columns_back[name], column)


@settings(max_examples=50, deadline=None)
@given(messages())
def test_the_layout_is_the_contract(message: Any) -> None:
    kind, header, columns = message
    encoded = wire.encode(kind, header, columns)
    assert encoded[:4] == b"BTHY"
    assert encoded[4:6] == bytes([1, kind])
    length = int.from_bytes(encoded[6:8], "little")
    body = 8 + length
    assert body % 8 == 0
    described = msgpack.unpackb(encoded[8:body])
    for column in described["columns"]:
        assert column["offset"] % 8 == 0
        raw = columns[column["name"]].astype(f"<{columns[column['name']].dtype.str[1:]}").tobytes()
        assert encoded[body + column["offset"] :][: len(raw)] == raw


def test_columns_are_views_and_cannot_be_changed() -> None:
    message = wire.encode(wire.TRACKS, {}, {"x_um": np.arange(4, dtype=np.float32)})
    _, header, columns = wire.decode(message)
    assert header["rows"] == 4
    with pytest.raises(ValueError, match="read-only"):
        columns["x_um"][0] = 1


@pytest.mark.parametrize(
    ("kind", "header", "columns", "said"),
    [
        (9, {}, {}, "kind 9"),
        (1, {}, {"a": np.zeros(2, np.uint8), "b": np.zeros(3, np.uint8)}, "different lengths"),
        (1, {}, {"a": np.zeros((2, 2), np.uint8)}, "must be flat"),
        (1, {}, {"a": np.zeros(2, complex)}, "complex128"),
        (1, {"long": "x" * 70_000}, {}, "at most 65,535"),
    ],
)
def test_what_no_message_can_hold_is_refused(kind: Any, header: Any, columns: Any, said: str) -> None:
    with pytest.raises(wire.WireError, match=said):
        wire.encode(kind, header, columns)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64))
def test_foreign_bytes_are_refused(garbage: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(garbage)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_messages_cut_short_are_refused(data: Any) -> None:
    message = wire.encode(wire.TRACKS, {"epoch": "e"}, {"x_um": np.ones(5, np.float32), "age": np.ones(5, np.uint32)})
    with pytest.raises(wire.WireError):
        wire.decode(message[: data.draw(st.integers(0, len(message) - 1))])
