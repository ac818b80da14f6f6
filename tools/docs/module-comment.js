// SPDX-License-Identifier: GPL-2.0-only
/**
 * A typedoc plugin: the comment at the head of a file is the module's.
 *
 * typedoc takes it for one only if it has the tag `@module`, which every file here would then carry
 * for typedoc's sake alone.
 */
import { Comment, Converter, ReflectionKind } from 'typedoc';

/**
 * The text of a file's head comment.
 *
 * @param {string} source
 */
function headComment(source) {
	const match = /^(?:\/\/.*\n)*\/\*\*([\s\S]*?)\*\//.exec(source);
	if (match === null) return null;
	return (match[1] ?? '')
		.split('\n')
		.map((line) => line.replace(/^\s*\* ?/, ''))
		.join('\n')
		.trim();
}

/**
 * What typedoc calls when it loads the plugin.
 *
 * @param {import('typedoc').Application} app
 */
export function load(app) {
	app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, reflection) => {
		if (!reflection.kindOf(ReflectionKind.Module) || reflection.comment !== undefined)
			return;
		const file = context
			.getSymbolFromReflection(reflection)
			?.declarations?.[0]?.getSourceFile();
		const text = headComment(file?.text ?? '');
		if (text !== null) reflection.comment = new Comment([{ kind: 'text', text }]);
	});
}
