"""Forms in which models give their answers, found in published outputs: what is read, and the near misses.

A row is (dataset, gold, answer, exact).
"""

import pytest

from grpo_aflow.tasks import grade
from grpo_aflow.tasks.selftest.attacks import text_task

R = True
W = False

PROPOSED = "The proposed answer is 1 day, but the calculations show 2 days before recycling it.\n\n"
REFUSED = "- The proposed answer is $168,000, which is incorrect.\n\nThe correct total amount is:\n\n42000"
IN_BOLD = "### Final Answer\nThe 42 kg bag of rice will last for **3 weeks**."
IN_TWO = "### Final Answer\nOf **42** bags **3** are left."
BOXED_AND_SAID = "\\[\n\\boxed{2000}\n\\]\n\n**Answer:** There are \\(2000\\) repeating \\(\\frac{n^2}{2010}\\)."
INTRODUCED = "### Final Answer\nThus, the cost of the 3 cards is:\n\\[\n201\n\\]"
ANOTHER_NUMBER = [
    ("gsm8k", "2.5", "The answer is 2.5 (or 5/2).", R),
    ("gsm8k", "150", r"\boxed{150 \text{ minutes (or 2.5 hours)}}", R),
    ("gsm8k", "70", "Answer: 70 minutes (or 1 hour 10 minutes)", R),
    ("gsm8k", "24", "The answer is 24 cookies (or 2 boxes).", R),
    ("gsm8k", "50", "The answer is 50% (or 0.5).", R),
    ("gsm8k", "0.5", "The answer is 0.5 (or 50%).", R),
    ("gsm8k", "2.5", "2.5 (or 3)", W),
    ("gsm8k", "3", "2.5 (or 3)", W),
    ("gsm8k", "18", "The answer is 18 apples (or 20 apples).", W),
    ("gsm8k", "20", "The answer is 18 apples (or 20 apples).", W),
    ("gsm8k", "18", "So he has 18 apples (or 20 apples).", W),
    ("gsm8k", "20", "So he has 18 apples (or 20 apples).", W),
    ("gsm8k", "18", "So he has 18 apples (or 18.0 apples).", R),
    ("gsm8k", "18", r"\boxed{18 (or 20)}", W),
    ("gsm8k", "20", r"\boxed{18 (or 20)}", W),
]
LABELS = [
    ("gsm8k", "2", f"{PROPOSED}5. **Correct Answer**: 2", R),
    ("gsm8k", "1", f"{PROPOSED}5. **Correct Answer**: 2", W),
    ("gsm8k", "2", "5. The final answer is expressed as a precise value of 2 inches.\n\nFinal reviewed answer: 1", W),
    ("gsm8k", "1", "5. The final answer is expressed as a precise value of 2 inches.\n\nFinal reviewed answer: 1", R),
    ("gsm8k", "168000", REFUSED, W),
    ("gsm8k", "42000", REFUSED, R),
    ("gsm8k", "5", "The answer is 5. The answer 7, which is wrong, forgets the eggs.", R),
    ("hotpotqa", "Paris", "The context says Lyon and Paris.\n\n5. **Corrected answer**: Paris", R),
    ("hotpotqa", "Paris", "Refined answer: Paris", R),
    ("hotpotqa", "Paris", "Correct short answer: Lyon", W),
    ("hotpotqa", "Paris", "**Refined Answer:**\n\nLyon is smaller. Therefore, the answer is **Paris**.", R),
    ("hotpotqa", "Lyon", "**Refined Answer:**\n\nLyon is smaller. Therefore, the answer is **Paris**.", W),
]
STATEMENTS = [
    ("gsm8k", "3", IN_BOLD, R),
    ("gsm8k", "42", IN_BOLD, W),
    ("gsm8k", "42", IN_TWO, W),
    ("math", "2000", BOXED_AND_SAID, R),
    ("math", "2010", BOXED_AND_SAID, W),
    ("math", "2000", BOXED_AND_SAID.replace("(2000", "(2010"), W),
    ("gsm8k", "201", INTRODUCED, R),
    ("gsm8k", "3", INTRODUCED, W),
    ("math", "\\frac{67}{89}", INTRODUCED.replace("201", "\\frac{201}{267}"), R),
    ("math", "2", "**Final Answer:**\n$2$ or $3$", W),
    ("math", "2", "**Final Answer:**\n\n$2$ or $3$", W),
    ("math", "2,3", "**Final Answer:**\n$2$ or $3$", R),
    ("math", "2", "**Final Answer:**\n$2$", R),
    ("math", "2", "**Final Answer:** Thus, the value is:\n$2$ or $3$", W),
]

CHECKED = "The answer is in the correct format.\n\nTherefore, no correction is needed.\n\n"
NAMED = "The team that was sold in 2007, led by Colin Kolles, is"
JUDGED = [
    ("hotpotqa", "21", f"{CHECKED}Original answer: 21", R),
    ("hotpotqa", "Paris", f"{CHECKED}**Original answer: Paris**", R),
    ("hotpotqa", "Paris", "Original answer: Paris\n\nThat is wrong. The answer is Lyon.", W),
    ("gsm8k", "21", "Original answer: 21\n\nThat is wrong. The answer is 22.", W),
    ("hotpotqa", "2000", "The original answer is correct: **2000**.", R),
    ("hotpotqa", "Paris", "The answer is Paris. The answer is correct, as the text says.", R),
    ("hotpotqa", "Lyon", "The answer is Paris. The answer is correct, as the text says.", W),
    ("hotpotqa", "9", "So, the refined answer should be corrected to:\n\n9", R),
    ("hotpotqa", "correct format", "The answer is correct format.", R),
    ("hotpotqa", "Spyker F1", f"**Refined Answer:** {NAMED} **Spyker F1**.", R),
    ("hotpotqa", "Spyker F1", f"**Refined Answer:** {NAMED} not **Spyker F1**.", W),
    ("hotpotqa", "Spyker F1", f"**Refined Answer:** {NAMED} **Force India** or **Spyker F1**.", W),
    ("hotpotqa", "yes", "Answer: **Yes**, both are American.", W),
    ("hotpotqa", "Paris", "Answer: **Paris**", R),
]


@pytest.mark.parametrize(("dataset", "gold", "answer", "exact"), [*ANOTHER_NUMBER, *LABELS, *STATEMENTS, *JUDGED])
def test_a_form_of_published_answers(dataset, gold, answer, exact):
    graded = grade(text_task(dataset, gold), answer)
    assert graded.exact is exact, (graded.rule, graded.read)
