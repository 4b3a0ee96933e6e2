"""Presentation: tables, claims with their rule of decision, figures and the page; what is reported is for others to say."""
