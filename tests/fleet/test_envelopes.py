"""Envelopes: what is decoded is what was encoded, and nothing else is taken for one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.fleet.envelopes import MARK, Envelope, Kind, Letter, Word, decode, encode

LETTERS = st.builds(Letter, st.sampled_from(Kind), st.text(max_size=5), st.integers(0, 1 << 40), st.binary(max_size=30))
ENVELOPES = st.builds(
    Envelope,
    *(st.text(max_size=9), st.text(max_size=9), st.sampled_from(Word), st.integers(0, 1 << 40), st.integers(1, 1 << 40)),
    st.lists(LETTERS, max_size=5),
)


@given(ENVELOPES)
def test_what_is_decoded_is_what_was_encoded(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope
    assert encode(envelope).startswith(MARK)


@given(ENVELOPES, st.data())
def test_no_part_of_an_envelope_is_one(envelope: Envelope, data: st.DataObject) -> None:
    body = encode(envelope)
    assert decode(body[: data.draw(st.integers(1, len(body) - 1))]) is None


@given(st.binary(max_size=40))
def test_other_bytes_raise_nothing(body: bytes) -> None:
    found = decode(MARK + body)
    assert found is None or isinstance(found, Envelope)
