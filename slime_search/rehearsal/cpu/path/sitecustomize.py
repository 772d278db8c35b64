"""Python imports this module at its start from whatever folder of PYTHONPATH holds it."""

from slime_search.rehearsal.cpu.import_hook import install

install()
