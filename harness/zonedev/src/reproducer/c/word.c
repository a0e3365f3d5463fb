/* What a store leaves at the start of a page; at its end, the complement. */
#define WORD(store, page) ((uint64_t)(store) << 32 | (uint32_t)(page))
