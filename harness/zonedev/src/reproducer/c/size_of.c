static off_t size_of(const char *path)
{
	struct stat stat_;

	return stat(path, &stat_) ? 0 : stat_.st_size;
}
