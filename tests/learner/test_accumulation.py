"""Where the gradients of groups that wait for others end up: on the device that they came from."""

from dataclasses import dataclass

import pytest
import torch

from grpo_aflow.learner.update.accumulation import GradientAccumulator, GroupSums

CARD, CPU = torch.device("cuda:0"), torch.device("cpu")


@dataclass
class Gradient:
    """One that says where it is, as a tensor on a card would."""

    device: torch.device

    def to(self, device):
        return Gradient(device)

    def cpu(self):
        return self.to(CPU)


@pytest.mark.parametrize("before", [[GroupSums()], []], ids=["no signal before it", "nothing came before it"])
@pytest.mark.parametrize("device", [CARD, CPU], ids=str)
def test_a_group_that_waited_is_the_total_on_its_own_device(before, device):
    accumulator, waiting = GradientAccumulator(), GroupSums(gradients=[Gradient(device), Gradient(device)])
    accumulator.put(1, waiting)
    assert [gradient.device for gradient in waiting.gradients] == [CPU, CPU]  # the card's memory is left to others
    for part in before:
        accumulator.put(0, part)
    assert [gradient.device for gradient in accumulator.whole().gradients] == [device, device]


def test_gradients_are_added_in_the_order_of_their_places():
    first, last = torch.tensor([1.0]), torch.tensor([2.0**-24])
    accumulator = GradientAccumulator()
    for place, gradient in ((2, last), (1, last), (0, first)):
        accumulator.put(place, GroupSums(gradients=[gradient.clone()]))
    [total] = accumulator.whole().gradients
    assert total.item() == 1.0  # the small ones, added first, would have counted
