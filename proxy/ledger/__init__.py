"""The usage ledger: who used what, one row for each time that a target was asked."""
