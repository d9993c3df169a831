from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.multimap import Multimap

VALUES = [object() for _ in range(4)]
STEPS = st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.sampled_from(["add", "remove", "compact"]))


@given(st.lists(STEPS, max_size=40))
def test_values_are_kept_by_key_in_the_order_in_which_they_came(steps: list[tuple[str, int, str]]) -> None:
    found: Multimap[str, object] = Multimap()
    model: dict[str, list[object]] = {}
    for key, number, what in steps:
        value = VALUES[number]
        mine = model.get(key, [])
        if what == "add":
            assert found.add(key, value) is (not mine)
            model[key] = mine if value in mine else [*mine, value]
        elif what == "compact":
            found.compact()
        elif value in mine:
            mine.remove(value)
            assert found.remove(key, value) is (not mine)
            model = {each: values for each, values in model.items() if values}
        else:
            with pytest.raises(KeyError):
                found.remove(key, value)
        assert list(found) == list(model) and len(found) == len(model)
        for each in "ab":
            assert found.all(each) == list(found.each(each)) == model.get(each, []) and (each in found) is (each in model)
            assert found.first(each) is next(iter(model.get(each, [])), None)
