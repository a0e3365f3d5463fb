/* mm/gup_benchmark.c */
struct gup_benchmark {
	uint64_t get_delta_usec;
	uint64_t put_delta_usec;
	uint64_t addr;
	uint64_t size;
	uint32_t nr_pages_per_call;
	uint32_t flags;
	uint64_t expansion[10];
};
