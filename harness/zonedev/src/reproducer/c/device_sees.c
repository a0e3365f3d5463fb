/* Where a processor can load at all, the device has read the same. */
static int device_sees(const char *at, size_t length, const char *copied)
{
	for (size_t i = 0; i < length && i < 16 * PAGE; i += PAGE) {
		uint64_t word;

		if (!load_word(at + i, &word) && memcmp(copied + i, &word, 8))
			return -1;
	}
	return 0;
}
