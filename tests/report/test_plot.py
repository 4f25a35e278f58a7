from __future__ import annotations

from recbole_llmtrsr.report.axis import Axis, Tick
from recbole_llmtrsr.report.plot import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot, Point, Series, beside

X = Axis("", 0.0, 10.0, (Tick(0.0, ("a", "b")),))
Y = Axis("", 0.0, 1.0, ())


def test_the_ends_of_the_axes_are_the_margins_of_the_canvas():
    plot = Plot("p", X, Y, ())
    assert (plot.across(0.0), plot.across(10.0)) == (f"{LEFT:.1f}", f"{WIDTH - RIGHT:.1f}")
    assert (plot.down(0.0), plot.down(1.0)) == (f"{plot.floor:.1f}", f"{TOP:.1f}")
    assert plot.line([Point(0.0, 1.0), Point(10.0, 1.0)]) == "44.0,8.0 350.0,8.0"


def test_texts_below_the_axis_have_room():
    labelled = Plot("p", Axis("seconds", 0.0, 10.0, (Tick(0.0, ("0",)),)), Y, ())
    assert Plot("p", X, Y, ()).floor == labelled.floor == HEIGHT - 34


def test_ten_rows_look_different_from_each_other():
    looks = {(s.colour, s.marker, s.dash) for s in (Series("", n, ()) for n in range(10))}
    colourless = {(marker, dash) for _, marker, dash in looks}
    assert len(looks) == len(colourless) == 10


def test_random_ranking_has_a_dashed_line_and_no_marker():
    random = Series("random ranking", None, ())
    assert (random.colour, random.marker, random.dash) == ("random", "", "3 4")


def test_the_description_says_every_point_and_every_seed():
    series = Series("A", 0, (Point(1, 0.5, text="K = 3, 0.5000"),), (Point(2, 0.4, text="a seed: 0.4000"),))
    other = Series("B", 1, (Point(1, 0.2, text="K = 3, 0.2000"), Point(2, 0.3, text="K = 5, 0.3000")))
    assert Plot("p", X, Y, (series, other)).description == (
        "A: K = 3, 0.5000; a seed: 0.4000. B: K = 3, 0.2000; K = 5, 0.3000."
    )


def test_many_series_stay_within_their_category():
    for n_series in (1, 2, 6, 20):
        places = beside(n_series)
        assert len(set(places)) == n_series
        assert max(map(abs, places)) < 0.4
