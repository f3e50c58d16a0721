"""The pages of a search: what its folder holds, what each section shows, a run and several seeds."""
