"""How an answer is read out of a text, before anything is compared: numbers, units, the final answer, programs."""
