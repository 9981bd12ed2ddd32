"""What fits on a cluster is placed, and what does not is named."""

from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.cluster.needs import Need, Node, described, differences, missing, needed

NODES = [Node(name="a", cpus=4, gpus=1), Node(name="b", cpus=2, gpus=0)]


def need(what, number, cpus, gpus=0.0):
    return Need(what=what, number=number, cpus=cpus, gpus=gpus)


def test_what_fits():
    assert missing([need("engines", 1, 1, 1), need("ranks", 5, 1)], NODES) == ""


def test_what_does_not_fit_is_counted():
    assert missing([need("engines", 2, 1, 1), need("ranks", 6, 1)], NODES) == (
        "1 of 2 engines (1 CPUs and 1 GPUs each) and 5 of 6 ranks (1 CPUs each)"
    )


def test_a_process_lives_on_one_node():
    assert missing([need("ranks", 1, 5)], NODES) == "0 of 1 ranks (5 CPUs each)"


def test_a_machine_may_be_several_nodes():
    assert missing([need("engines", 2, 1, 1)], [Node(name="a", cpus=1, gpus=1)] * 2) == ""


def test_a_cluster_in_words():
    assert described(NODES) == "a: 4 CPUs and 1 GPUs, b: 2 CPUs"
    assert described([]) == "no node"
    assert needed([need("engines", 2, 4, 1), need("ranks", 1, 0.5), need("execution workers", 0, 1)]) == (
        "2 engines (4 CPUs and 1 GPUs each), 1 ranks (0.5 CPUs each)"
    )


def test_other_versions_are_named():
    own = {"torch": "2.13.0", "vllm": "0.32.0"}
    assert differences(own, dict(own)) == ""
    assert (
        differences(own, {"torch": "2.12.0"}) == "torch 2.12.0 there and 2.13.0 here, vllm none there and 0.32.0 here"
    )


@given(
    numbers=st.lists(st.integers(0, 6), min_size=2, max_size=2),
    cpus=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    nodes=st.lists(st.integers(0, 8), max_size=4),
)
def test_nothing_is_placed_twice(numbers, cpus, nodes):
    """Where all is said to fit there is room for the sum; on nodes that hold everything nothing is missing."""
    needs = [need(what, n, c) for what, n, c in zip(("engines", "ranks"), numbers, cpus, strict=True)]
    total = sum(n * c for n, c in zip(numbers, cpus, strict=True))
    if not missing(needs, [Node(name=str(i), cpus=c, gpus=0) for i, c in enumerate(nodes)]):
        assert total <= sum(nodes)
    assert missing(needs, [Node(name="large", cpus=total, gpus=0)]) == ""
