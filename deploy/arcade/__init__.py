"""The arcade: a live page of a game, of who plays it and of the chip that thinks.

The game runs in a thread of its own on the loop and pacer of `deploy.realtime` (`show`) and leaves snapshots behind; a
server on loopback (`server`) sends each viewer the newest one. What viewers ask for is parsed in `orders`, kept at the
`desk`, and made beside the loop: a player or a damaged chip is swapped in between two decisions (`seat`).
"""
