package install

import "errors"

// ErrRefused is what errors.Is finds in errors that say that Fusegate will not
// do what was asked: the settings or the cluster would make it unsafe, and
// trying again does not help. All other errors are failures.
var ErrRefused = errors.New("refused")

// Refuse marks err as a refusal and leaves its words as they are. It returns
// nil for nil.
func Refuse(err error) error {
	if err == nil {
		return nil
	}
	return refusal{err}
}

type refusal struct{ error }

func (r refusal) Is(target error) bool { return target == ErrRefused }
func (r refusal) Unwrap() error        { return r.error }
