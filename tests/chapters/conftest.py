"""Assertions of the shared checks explain themselves as those of tests do."""

import pytest

pytest.register_assert_rewrite("game_checks")
