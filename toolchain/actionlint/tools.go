//go:build tools

// Package tools pins the linter of the workflows, for machines that have none.
package tools

import _ "github.com/rhysd/actionlint/cmd/actionlint"
