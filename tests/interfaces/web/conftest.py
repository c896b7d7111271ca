"""What all browser tests share."""

from playwright.sync_api import expect

from tests.patience import PATIENCE_S

expect.set_options(timeout=PATIENCE_S * 1000)
