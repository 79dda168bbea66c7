package intercept

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/fusegate/fusegate/pkg/policy"
)

// operations is a set of operations.
type operations uint8

const (
	create operations = 1 << iota
	update
	remove
	connect

	writes = create | update
	all    = create | update | remove | connect
)

// operationTypes spells the operations, in the order in which rules list them.
var operationTypes = []struct {
	op   operations
	name admissionregistrationv1.OperationType
}{
	{create, admissionregistrationv1.Create},
	{update, admissionregistrationv1.Update},
	{remove, admissionregistrationv1.Delete},
	{connect, admissionregistrationv1.Connect},
}

// operationsOf reads the operations of a template.
func operationsOf(listed []policy.Operation) operations {
	if len(listed) == 0 {
		return writes
	}
	var ops operations
	for _, l := range listed {
		ops |= parse(admissionregistrationv1.OperationType(l))
	}
	return ops
}

func parse(name admissionregistrationv1.OperationType) operations {
	if name == admissionregistrationv1.OperationAll {
		return all
	}
	for _, t := range operationTypes {
		if t.name == name {
			return t.op
		}
	}
	return 0
}

func (o operations) types() []admissionregistrationv1.OperationType {
	var out []admissionregistrationv1.OperationType
	for _, t := range operationTypes {
		if o&t.op != 0 {
			out = append(out, t.name)
		}
	}
	return out
}
