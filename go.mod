module github.com/golsr/lsr

go 1.26
