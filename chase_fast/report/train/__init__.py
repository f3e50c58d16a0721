"""The pages of a training: what its folder holds, what each section shows, a run and several seeds."""
