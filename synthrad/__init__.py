"""synthrad: does synthetic data help a radiology task, and is it safe to share?"""
