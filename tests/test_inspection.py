from profiles.inspection import LayerTime, layers_of, outputs_of, per_operator
from profiles.target import Target, find_target
from runtimes.base import Layer


def layers(name, *times_ms):
    return [Layer(name, "Conv", time_ms) for time_ms in times_ms]


def test_the_first_runs_are_left_out():
    found = per_operator(layers("conv", 9.0, 1.0, 1.0, 1.0), runs=4, skip=1)

    assert found == (LayerTime("conv", "Conv", 1.0),)


def test_a_name_that_runs_twice_counts_twice():
    (found,) = per_operator(layers("reorder", 1.0, 1.0, 1.0, 1.0), runs=2, skip=0)

    assert found.time_ms == 2.0


def test_an_operator_missing_from_a_run_is_no_error():
    (found,) = per_operator(layers("reorder", 2.0, 2.0, 2.0), runs=4, skip=0)

    assert found.time_ms == 2.0


def test_operators_keep_the_order_of_execution(make_network):
    found = layers_of(Target("null", "null"), make_network(convolutions=1), runs=3)

    assert [one.kind for one in found] == ["Conv", "Relu", "GlobalAveragePool"]


def test_the_same_seed_gives_two_runtimes_the_same_inputs(make_network):
    path = make_network()

    ours, theirs = (outputs_of(find_target(name), path) for name in ("x86-cpu", "x86-openvino"))

    assert set(ours) == set(theirs) == {"pooled"}
    assert max(abs(a - b) for a, b in zip(ours["pooled"], theirs["pooled"], strict=True)) < 1e-5
