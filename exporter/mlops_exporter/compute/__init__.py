"""CPU, memory, GPU, workloads and what they cost, sampled between scrapes."""
