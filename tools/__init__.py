"""What works on a checkout of Buckler and is no part of the package: run each from the root of the checkout."""
