"""Packed predictions come back to the last bit, whatever the probabilities are."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mpox.runs.recorded import BITS, pack_predictions, unpack_predictions

NUMBERS = st.floats(allow_nan=False, width=64)


def bits(table: pd.DataFrame) -> np.ndarray:
    return table[["p_a", "p_b", "p_c"]].to_numpy().view(np.int64)


@given(st.lists(st.tuples(st.just(np.nan) | NUMBERS, NUMBERS, st.just(np.nan) | NUMBERS), min_size=1, max_size=20))
def test_every_number_comes_back_to_the_last_bit(rows):
    table = pd.DataFrame(rows, columns=["p_a", "p_b", "p_c"]).assign(run_id="r")
    back = unpack_predictions(pack_predictions(table))
    assert back.columns.tolist() == table.columns.tolist()
    there = table[["p_a", "p_b", "p_c"]].notna().to_numpy()
    assert (bits(back)[there] == bits(table)[there]).all() and (back.isna() == table.isna()).all(axis=None)


def test_what_is_kept_of_probabilities_is_small():
    p = np.random.default_rng(0).random(1000)
    packed = pack_predictions(pd.DataFrame({"p_a": 1 - p, "p_b": p}))
    assert packed["p_a"].isna().all() and (packed[BITS].abs() < 2**8).all()


def test_a_table_that_was_never_packed_is_left_alone():
    table = pd.DataFrame({"p_a": [0.25], "p_b": [0.75]})
    assert unpack_predictions(table) is table
