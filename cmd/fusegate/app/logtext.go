package app

import (
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/fusegate/fusegate/pkg/printable"
)

// printableLog makes all that is logged printable, whoever logs it. It is given after
// the encoder's own option.
func printableLog(o *zap.Options) { o.Encoder = printableEncoder{o.Encoder} }

type printableEncoder struct{ zapcore.Encoder }

// Clone implements zapcore.Encoder.
func (e printableEncoder) Clone() zapcore.Encoder { return printableEncoder{e.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder. A message is one line: in the format console
// it is written as it is, and its second line would pass for an entry of its own.
func (e printableEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	entry.Message, entry.LoggerName = printable.Line(entry.Message), printable.Line(entry.LoggerName)
	b, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	written := b.String()
	if text := printable.Text(written); text != written {
		b.Reset()
		b.AppendString(text)
	}
	return b, nil
}
