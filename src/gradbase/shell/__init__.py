"""``gradbase shell``: SQL by hand, with history, completion and pages.

`loop` holds the shell itself; `prompt` reads a statement, `completion` proposes what may follow,
`names` knows what there is, `running` lets Ctrl-C stop a statement, `paging` shows what is long,
`commands` are those that begin with a dot.
"""
