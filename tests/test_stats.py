"""Intervals and tests agree with scipy and statsmodels, cover what they claim, and never say NaN."""

import gc
import itertools
import json
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.evaluation.paired import adjusted_wald, difference, mcnemar, newcombe, noninferiority, score_difference, tango
from buckler.evaluation.power import detectable, pairs_needed
from buckler.evaluation.statistics import Z95, Rate, difference_over_seeds, holm, mean, pooled, rate, wilson

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_rate_counts_what_was_unscored():
    one = rate([True, None, False, True, None])
    assert (one.hits, one.n, one.unscored) == (2, 3, 2)
    assert one.value == pytest.approx(2 / 3)
    assert one.bounds == (2 / 5, 4 / 5)


def test_rate_of_nothing_is_none():
    assert rate([]).to_json() == {
        "value": None, "hits": 0, "n": 0, "unread": 0, "low": None, "high": None, "bounds": None,
    }  # fmt: skip
    blind = rate([None, None])
    assert blind.value is None and blind.interval is None and blind.bounds == (0, 1)


@given(counts)
def test_wilson_agrees_with_scipy(case):
    from scipy.stats import binomtest

    hits, n = case
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(counts, st.integers(0, 50))
def test_rate_lies_in_its_interval_and_bounds_hold_every_reading(case, unscored):
    hits, n = case
    one = Rate(hits=hits, n=n, unscored=unscored)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.bounds[0] <= one.value <= one.bounds[1]
    json.dumps(one.to_json(), allow_nan=False)


@pytest.mark.parametrize(("n", "p"), [(20, 0.05), (50, 0.3), (100, 0.5), (100, 0.95)])
def test_wilson_covers_about_95_percent(n, p):
    import numpy as np

    draws = np.random.default_rng(1).binomial(n, p, size=4000)
    ends = {k: wilson(int(k), n) for k in set(draws.tolist())}
    covered = np.mean([ends[k][0] <= p <= ends[k][1] for k in draws.tolist()])
    assert 0.92 <= covered <= 0.985


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_the_binomial_test(only_a, only_b):
    from scipy.stats import binomtest

    theirs = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(theirs)


def test_mcnemar_survives_many_pairs():
    assert mcnemar(5000, 5000) == 1.0 and mcnemar(0, 5000) == 0.0


def test_difference_is_paired_by_id_and_counts_what_it_leaves_out():
    a = {"x": True, "y": False, "z": None, "w": True}
    b = {"y": True, "x": True, "z": True, "v": True}
    got = difference(a, b)
    assert (got.n, got.only_a, got.only_b, got.left_out) == (2, 0, 1, 3)
    assert got.value == 0.5 and got.low <= 0.5 <= got.high


def test_difference_of_nothing_is_none():
    got = difference({"x": None}, {"x": True})
    assert (got.value, got.low, got.high, got.p, got.left_out) == (None, None, None, None, 1)
    json.dumps(got.to_json(), allow_nan=False)


def test_newcombe_gives_the_published_example():
    # Newcombe 1998, table II, the pairs (36, 12, 2, 0): method 10 gives 0.0569 to 0.3404
    low, high = newcombe(36, 12, 2, 0)
    assert (low, high) == pytest.approx((0.0569, 0.3404), abs=2e-4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_difference_turns_its_sign_with_its_sides(pairs):
    a = {str(at): x for at, (x, _) in enumerate(pairs)}
    b = {str(at): y for at, (_, y) in enumerate(pairs)}
    there, back = difference(a, b), difference(b, a)
    assert there.value == -back.value and there.p == back.p
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert -1 <= there.low <= there.value <= there.high <= 1


def test_paired_interval_covers_about_95_percent():
    rng = random.Random(2)
    covered = 0
    for _ in range(800):  # b follows a in two cases of three, so the pairs depend on each other
        a = {str(at): rng.random() < 0.4 for at in range(60)}
        b = {at: hit if rng.random() < 2 / 3 else rng.random() < 0.7 for at, hit in a.items()}
        got = difference(a, b)
        covered += got.low <= (0.4 * 2 / 3 + 0.7 / 3) - 0.4 <= got.high
    assert 0.92 <= covered / 800 <= 0.985


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_agrees_with_statsmodels(pvalues):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    gc.freeze()  # statsmodels collects all garbage at each call
    assert holm(pvalues) == pytest.approx(list(multitest.multipletests(pvalues, method="holm")[1]))


def test_holm_by_hand_passes_over_tests_that_were_not_done():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([]) == [] and holm([None]) == [None]


@settings(max_examples=50)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda values: max(values) - min(values) > 1e-6))
def test_mean_agrees_with_scipy(values):
    from scipy import stats as theirs

    low, high = theirs.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=theirs.sem(values))
    got = mean(values)
    assert (got.low, got.high) == pytest.approx((low, high))


def test_one_seed_has_no_interval():
    got = mean([0.4, None])
    assert (got.value, got.low, got.high, got.n, got.least, got.most) == (0.4, None, None, 1, 0.4, 0.4)
    assert mean([]).value is None


def test_pooled_weighs_seeds_alike_and_says_both():
    got = pooled([Rate(hits=1, n=2), Rate(hits=0, n=98, unscored=1), Rate(hits=0, n=0)])
    assert got.over_seeds.value == 0.25 and got.over_seeds.n == 2
    assert got.all_answers == Rate(hits=1, n=100, unscored=1)
    assert got.over_seeds.low == 0.0 and got.over_seeds.high == 1.0  # two seeds far apart say little
    json.dumps(got.to_json(), allow_nan=False)


def test_seeds_that_differ_widen_the_interval_beyond_wilson():
    got = pooled([Rate(hits=hits, n=100) for hits in (10, 50, 90)])
    wide = got.over_seeds.high - got.over_seeds.low
    assert wide > 3 * (got.all_answers.high - got.all_answers.low)


def test_difference_over_seeds_is_paired():
    got = difference_over_seeds({0: 0.1, 1: 0.5, 2: 0.9, 7: 0.0}, {0: 0.2, 1: 0.6, 2: 1.0, 8: 1.0})
    assert got.n == 3 and got.value == pytest.approx(0.1)
    assert got.high - got.low < 1e-6  # the seeds differ, the pairs do not
    assert difference_over_seeds({0: 0.1}, {0: 0.2}).low is None


@pytest.mark.parametrize(("n", "base"), [(50, 0.5), (100, 0.1), (400, 0.9)])
def test_detectable_agrees_with_statsmodels(n, base):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    gap = detectable(n, base)
    powers = [
        proportion.power_proportions_2indep(side * gap, base, n, alternative="two-sided").power
        for side in (1, -1)
        if 0 < base + side * gap < 1
    ]
    assert max(powers) == pytest.approx(0.8, abs=0.01)


def test_detectable_shrinks_with_n_and_is_none_where_nothing_shows():
    assert detectable(1000) < detectable(100) < detectable(20)
    assert detectable(2) is None and detectable(0) is None


def by_id(values):
    return {str(at): value for at, value in enumerate(values)}


def drawn(cells, n, rng):
    """`n` pairs of a table of shares: both good, a alone, b alone, neither."""
    kinds = rng.choice(4, size=n, p=cells).tolist()
    return by_id(float(kind in (0, 1)) for kind in kinds), by_id(float(kind in (0, 2)) for kind in kinds)


@given(counts)
def test_wilson_agrees_with_statsmodels(case):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    hits, n = case
    assert wilson(hits, n) == pytest.approx(proportion.proportion_confint(hits, n, method="wilson"), abs=1e-9)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(both, only_a, only_b, neither):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    theirs = tables.mcnemar([[both, only_a], [only_b, neither]], exact=True)
    assert mcnemar(only_a, only_b) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(
    "interval", [newcombe, lambda both, first, second, neither: tango(first, second, both + first + second + neither)]
)
def test_the_ends_for_rates_move_with_every_single_answer(interval):
    # so that the ends with every unscored answer against one side are bounds over all readings of them
    for n in (3, 6, 11):
        for both, first, second in itertools.product(range(n + 1), repeat=3):
            neither = n - both - first - second
            if neither < 0:
                continue
            low, high = interval(both, first, second, neither)
            for step in ((1, 0, -1, 0), (0, 1, 0, -1), (-1, 1, 0, 0), (0, 0, -1, 1)):
                cells = [old + change for old, change in zip((both, first, second, neither), step, strict=True)]
                if min(cells) >= 0:
                    further = interval(*cells)
                    assert further[0] >= low - 1e-12 and further[1] >= high - 1e-12, (both, first, second, neither, step)


def test_tango_gives_the_published_example():
    # airway reactivity of 21 children: Fagerland, Lydersen and Laake 2014 give -0.517 to -0.026
    assert tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40).filter(bool))
def test_tango_is_wilson_where_pairs_differ_one_way_and_turns_with_its_sides(first, second, rest):
    n = first + second + rest
    assert tango(first, 0, first + rest)[1] == pytest.approx(wilson(first, first + rest)[1], abs=1e-9)
    assert tango(first, second, n) == pytest.approx(tuple(-end for end in reversed(tango(second, first, n))), abs=1e-9)
    low, high = tango(first, second, n)
    assert -1 <= low <= (first - second) / n <= high <= 1


def test_tango_ends_where_the_score_test_with_the_likeliest_variance_gives_z():
    from scipy.optimize import minimize_scalar

    for first, second, n in ((5, 2, 60), (0, 3, 25), (12, 12, 40)):
        for gap in tango(first, second, n):

            def surprise(share, gap=gap, first=first, second=second, n=n):
                return -sum(
                    count * math.log(chance)
                    for count, chance in ((first, share + gap), (second, share), (n - first - second, 1 - 2 * share - gap))
                    if count
                )

            room = (max(0.0, -gap) + 1e-12, (1 - gap) / 2 - 1e-12)
            share = minimize_scalar(surprise, bounds=room, method="bounded", options={"xatol": 1e-12}).x
            error = math.sqrt((2 * share + gap - gap * gap) / n)
            assert abs((first - second) / n - gap) / error == pytest.approx(Z95, rel=1e-3)


def test_adjusted_wald_by_hand():
    # 15 pairs, 1 and 5 of which differ, and 1.92 of each added
    more = Z95**2
    middle = 4 / (15 + more)
    half = Z95 * (((6 + more) / (15 + more) - middle**2) / (15 + more)) ** 0.5
    assert adjusted_wald(5 - 1, 5 + 1, 15) == pytest.approx((middle - half, middle + half))
    assert adjusted_wald(0, 0, 40)[1] == pytest.approx(wilson(0, 40)[1])


def test_equal_scores_of_few_probes_are_no_proof():
    got = score_difference(by_id([0.7] * 5), by_id([0.7] * 5))
    assert got.value == 0 and got.low < -0.2 and got.high > 0.2 and got.p == 1


@pytest.mark.parametrize("skew", [0.5, 4.0])
def test_score_interval_is_as_wide_as_the_bootstrap_and_covers(skew):
    import numpy as np
    from scipy.stats import bootstrap

    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(300):
        a, b = rng.beta(2, 2, size=40), rng.beta(2, skew, size=40)
        got = score_difference(by_id(a.tolist()), by_id(b.tolist()))
        covered += got.low <= 2 / (2 + skew) - 0.5 <= got.high
        if trial < 3:
            theirs = bootstrap((b - a,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
            assert got.low <= theirs.low + 0.01 and got.high >= theirs.high - 0.01
    assert 0.93 <= covered / 300 <= 1.0


def test_score_difference_is_paired_and_repeats_itself():
    a, b = {"x": 0.5, "y": 0.25, "z": None, "w": 1.0}, {"x": 1.0, "y": 0.25, "z": 1.0}
    got = score_difference(a, b)
    assert (got.n, got.value, got.only_a, got.only_b, got.left_out) == (2, 0.25, 0, 1, 2)
    assert got == score_difference(a, b)


def test_noninferiority_has_three_outcomes():
    good, bad = by_id([1.0] * 100), by_id([0.0] * 60 + [1.0] * 40)
    same = noninferiority(good, good, margin=0.05, z=Z95)
    assert (same.decision, same.loss, same.is_loss, same.needed) == ("pass", 0, False, None)
    worse = noninferiority(good, bad, margin=0.05, z=Z95)
    assert worse.decision == "fail" and worse.low > 0.4 and worse.worse == 60
    few = noninferiority(by_id([1.0] * 20), by_id([1.0] * 20), margin=0.05, z=Z95)
    assert few.decision == "inconclusive" and few.needed == 73 and not few.held_up_by_unscored
    enough = by_id([1.0] * few.needed)
    assert noninferiority(enough, enough, margin=0.05, z=Z95).decision == "pass"
    assert noninferiority({}, {}, margin=0.05, z=Z95).decision == "inconclusive"


def test_a_sure_loss_within_the_margin_passes_and_is_told():
    got = noninferiority(by_id([1.0] * 2000), by_id([0.0] * 20 + [1.0] * 1980), margin=0.05, z=Z95)
    assert got.decision == "pass" and got.is_loss and not got.is_gain
    back = noninferiority(by_id([0.0] * 20 + [1.0] * 1980), by_id([1.0] * 2000), margin=0.05, z=Z95)
    assert back.decision == "pass" and back.is_gain


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, None]), st.sampled_from([0.0, 1.0, None])), min_size=1, max_size=7))
def test_what_was_not_read_is_bounded_by_every_reading_of_it(pairs):
    a, b = by_id(x for x, _ in pairs), by_id(y for _, y in pairs)
    got = noninferiority(a, b, margin=0.05, z=Z95)
    assert got.n + got.unscored == len(pairs)
    ends = []
    for filled in itertools.product(*(([value] if value is not None else [0.0, 1.0]) for pair in pairs for value in pair)):
        one = noninferiority(by_id(filled[0::2]), by_id(filled[1::2]), margin=0.05, z=Z95)
        ends.append((one.low, one.high))
        if len(ends) > 300:
            break
    assert got.low <= min(low for low, _ in ends) + 1e-9 and got.high >= max(high for _, high in ends) - 1e-9


def test_unscored_answers_alone_may_hold_up_a_decision():
    good = by_id([1.0] * 200)
    got = noninferiority(good, {**good, **by_id([None] * 30)}, margin=0.05, z=Z95)
    assert got.decision == "inconclusive" and got.held_up_by_unscored and (got.n, got.unscored) == (170, 30)


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [((0.9, 0.02, 0.02, 0.06), "pass"), ((0.6, 0.05, 0.05, 0.3), "pass"), ((0.5, 0.2, 0.1, 0.2), "fail")],
)
def test_the_number_that_is_said_to_be_needed_decides_four_times_in_five(cells, wanted):
    import numpy as np

    kinds = np.repeat(range(4), [round(100 * share) for share in cells]).tolist()
    pilot = by_id(float(k in (0, 1)) for k in kinds), by_id(float(k in (0, 2)) for k in kinds)
    needed = noninferiority(*pilot, margin=0.05, z=Z95).needed
    rng = np.random.default_rng(2)
    found = [noninferiority(*drawn(cells, needed, rng), margin=0.05, z=Z95).decision for _ in range(600)]
    assert 0.74 <= found.count(wanted) / 600 <= 0.86


@pytest.mark.parametrize(
    ("cells", "n"),
    [
        ((0.85, 0.08, 0.03, 0.04), 150),
        ((0.95, 0.05, 0.0, 0.0), 300),
        ((0.55, 0.05, 0.0, 0.4), 40),  # Newcombe's interval alone passes 9 %
        ((0.55, 0.05, 0.0, 0.4), 250),  # and here 6 %
        ((0.95, 0.05, 0.0, 0.0), 60),  # Tango's alone fails 4 %
    ],
)
def test_a_loss_at_the_margin_passes_and_fails_no_more_often_than_its_level(cells, n):
    import numpy as np

    rng = np.random.default_rng(3)
    tables = Counter(tuple(row) for row in rng.multinomial(n, cells, size=4000).tolist())
    found = Counter[str]()
    for (both, only_a, only_b, neither), times in tables.items():
        a, b = (
            [1.0] * (both + only_a) + [0.0] * (only_b + neither),
            [1.0] * both + [0.0] * only_a + [1.0] * only_b + [0.0] * neither,
        )
        found[noninferiority(by_id(a), by_id(b), margin=0.05, z=Z95).decision] += times
    assert found["pass"] / 4000 <= 0.033 and found["fail"] / 4000 <= 0.033


def test_scores_that_lose_one_in_twenty_outright_pass_no_more_often_than_the_level():
    # the rarest way to lose the margin, which equal scores hide best
    rng, passed = random.Random(4), 0
    for _ in range(400):
        a = by_id([0.5] * 10 + [1.0] * 50)
        b = {at: 0.0 if value == 1.0 and rng.random() < 0.06 else value for at, value in a.items()}
        passed += noninferiority(a, b, margin=0.05, z=Z95).decision == "pass"
    assert passed / 400 <= 0.03


def test_scores_that_are_all_0_or_1_are_compared_as_rates():
    a, b = by_id([1.0] * 55 + [0.0] * 25), by_id([0.0] * 4 + [1.0] * 51 + [0.0] * 25)
    whole = noninferiority(a, b, margin=0.05, z=Z95)
    assert (whole.low, whole.high) == pytest.approx((min(newcombe(51, 4, 0, 25)[0], tango(4, 0, 80)[0]), tango(4, 0, 80)[1]))
    graded = noninferiority({**a, "0": 0.99}, b, margin=0.05, z=Z95)
    assert (graded.low, graded.high) != pytest.approx((whole.low, whole.high), abs=1e-3)


def test_the_number_needed_counts_the_unscored_that_go_on_coming():
    good = by_id([1.0] * 40)
    few = noninferiority(good, {**good, **by_id([None] * 2)}, margin=0.09, z=Z95)
    assert few.decision == "inconclusive" and not few.held_up_by_unscored and few.needed == 197
    for size, decision in ((180, "inconclusive"), (200, "pass")):
        all_good = by_id([1.0] * size)
        assert noninferiority(all_good, {**all_good, **by_id([None] * (size // 20))}, margin=0.09, z=Z95).decision == decision
    many = noninferiority(good, {**good, **by_id([None] * 5)}, margin=0.09, z=Z95)
    assert many.decision == "inconclusive" and many.needed is None, "an eighth unscored may hide a loss of an eighth"


def test_nothing_lost_is_no_minus_nothing():
    same = noninferiority(by_id([0.0] * 5), by_id([0.0] * 5), margin=0.05, z=Z95)
    assert str(same.loss) == "0.0"


def test_pairs_needed_is_the_textbook_number_for_a_plain_interval():
    spread, margin = 0.3, 0.05

    def ends(n):
        return -Z95 * spread / n**0.5, Z95 * spread / n**0.5

    assert pairs_needed(ends, 0.0, spread, margin) == pytest.approx((Z95 + 0.8416) ** 2 * spread**2 / margin**2, rel=0.01)
    assert pairs_needed(ends, margin, spread, margin) is None
