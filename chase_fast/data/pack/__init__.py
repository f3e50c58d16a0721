"""Packing a dataset: what of every frame crops can show, written once, in shards; `packed:DIR` reads it.

`plan` says which frames go into which shard, `shard` makes one shard, `write` makes all of them in processes,
`__main__` is the command.
"""
