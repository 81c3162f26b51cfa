module multi-bench-go

go 1.22
