"""The web face of mlcore: long jobs set up, watched and taken home in a browser.

`app.create` makes the server, which holds no state: tasks are rows of `store` and folders beside it,
and `supervisor`, a process of its own, runs them. `kinds` says what a task of each kind is.
"""
