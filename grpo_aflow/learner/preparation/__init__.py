"""What a run begins from: the base model in a folder, and its warm start. `models` calls what is here.

`reference_workflows` is the corpus, `examples` pairs it with prompts, `fine_tuning` trains on them. `tiny` builds the
project's own model, `tokenization` refuses what cannot work, `threads` sets torch's, and `cache` keeps what took time.
"""
