"""The field test: third-party clients, the ways by which they connect, and the lives of their connections, in all combinations.

* A client is a row in `clients.py` and a small program in `programs`, which gets its cells and reports events.
* A way is a row in `ways.py`; a program in front of the server also has a class in `house.py`.
* A life is a row in `lives.py` and a function that causes the events and checks the outcome.

`matrix.py` lists impossible combinations with the reasons. All cells of a life run at once: one server with all ways
(`house.py`), and one process for each client with all its cells (`wave.py`).
"""
