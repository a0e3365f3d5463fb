/* lib/test_hmm_uapi.h */
struct hmm_dmirror_cmd {
	uint64_t addr;		/* the range */
	uint64_t ptr;		/* what is copied from or to */
	uint64_t npages;
	uint64_t cpages;	/* how many were done */
	uint64_t faults;
};
