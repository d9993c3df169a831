"""The field: clients of others, the ways by which they come, and the lives of their connections, each with each.

* A client is a row in `clients.py` and a small program in `programs`, which is told its cells and says what happens.
* A way is a row in `ways.py`; a program before the server has a class in `house.py` besides.
* A life is a row in `lives.py` and a function that says what happens and what must hold.

What makes no sense stands in `matrix.py` with its reason. All cells of a life go at once: one server that has every way
(`house.py`), one process for each client with all its cells (`wave.py`).
"""
