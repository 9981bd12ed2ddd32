"""From a composed Hydra config to checked, typed objects, once; below this package nobody knows Hydra.

`schema` is what a training run and an evaluation are made of; `parsing` builds it and refuses what cannot work.
"""
