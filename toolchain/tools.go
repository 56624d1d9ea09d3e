//go:build tools

// Package toolchain pins the Pulumi CLI that machines without one build for themselves.
package toolchain

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
