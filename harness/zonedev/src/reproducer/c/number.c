static uint64_t number(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long value = 0;

	if (file && fscanf(file, "%lli", (long long *)&value) != 1)
		value = 0;
	if (file)
		fclose(file);
	return value;
}
