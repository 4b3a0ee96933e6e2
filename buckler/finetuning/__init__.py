"""Fine-tuning: attacks and defences as row sets, and the training phase (`train`) that a customization is made of.

Rows become ids and weights, optimizer steps are planned first, then divided among micro-batches and processes.
"""
